"""One folder or file for each way out of the node. Sinks are strangers to each other."""
