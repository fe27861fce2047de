"""Figures of merit in closed form, intervals and conformal bounds."""
