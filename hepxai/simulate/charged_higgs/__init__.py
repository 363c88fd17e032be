"""Charged-Higgs events: t tbar with H+ -> W A, A -> mu mu, and a background with a similar final state."""
