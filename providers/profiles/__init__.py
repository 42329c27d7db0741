"""The packaged devices: for each a module with its behaviour and an XML file with its MDIB."""
