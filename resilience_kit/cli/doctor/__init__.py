"""`resilience-kit doctor`: what of this machine the kit stands on, and what of it an operator should know."""
