"""The words' forms outside a process."""
