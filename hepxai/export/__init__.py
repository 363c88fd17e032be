"""Output for other programs: ROOT friend trees."""
