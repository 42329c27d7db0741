"""`python -P -m sdc_node` is the other documented way in."""

from sdc_node.cli import main

main()
