"""Receivers for trying out: they check, acknowledge or refuse, store and list what a node sends."""
