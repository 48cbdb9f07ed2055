"""Floor 3: data on its way into models: batches, data sets from files, downloads."""
