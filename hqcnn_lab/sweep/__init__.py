"""Many trainings: in processes of their own, for `-m` and for a study."""
