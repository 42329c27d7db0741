"""The FHIR R4 sink: `render` (pure) makes bundles, `client` sends them, `settings` and `sink` join them to the node."""
