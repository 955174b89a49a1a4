"""Digests of Arrow types: all that a type says, with the parameters of extension types and metadata of fields."""
