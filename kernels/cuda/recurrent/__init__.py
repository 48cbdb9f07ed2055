"""Twins of the recurrent layers."""
