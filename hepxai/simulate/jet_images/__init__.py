"""Jet images: energy of the hardest jet in the towers of two calorimeters. Needs Pythia and FastJet."""
