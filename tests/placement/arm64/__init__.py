"""Loads on arm64."""
