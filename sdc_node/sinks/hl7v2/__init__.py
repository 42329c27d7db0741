"""HL7 v2.6 to hospital systems: IHE PCD-01 observations and PCD-04 alerts over MLLP."""
