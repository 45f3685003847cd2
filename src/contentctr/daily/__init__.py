"""A model a day: new rooms in, yesterday's run further trained, measured against it."""
