"""Doors to other programs: ROOT friend trees."""
