"""Networks that CPAL plugs into: each yields features, a CAM and logits, and nothing else."""
