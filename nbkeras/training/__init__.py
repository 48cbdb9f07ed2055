"""Floor 3: models: how they are put together, trained, evaluated, copied and shown."""
