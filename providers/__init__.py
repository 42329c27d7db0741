"""The SDC provider role: simulated devices that answer on the wire as real ones do."""
