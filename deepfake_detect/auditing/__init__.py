"""Audits of data sets: what would let a model learn something other than forgery."""
