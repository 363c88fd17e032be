"""Multijet events: all-hadronic top pairs and QCD, in slices of pT-hat, with jet substructure."""
