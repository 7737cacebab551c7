"""Scenarios and models in: the schema, the files, and what is wrong with them."""
