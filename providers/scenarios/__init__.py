"""Bundled scenarios, as package data."""
