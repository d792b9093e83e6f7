"""The learner service: admits prompts, seals batches, trains, checkpoints, publishes."""
