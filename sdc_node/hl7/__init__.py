"""HL7 v2 as values: grammar, escaping, data types, framing, acknowledgements, rules of PCD-01 and PCD-04.

Nothing in this room does I/O; the sink, the receivers and the inbound side read and write through it.
"""
