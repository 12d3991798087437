"""The demonstration: one real engine under several policies, beside one without speculation."""
