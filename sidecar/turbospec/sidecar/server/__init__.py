"""The controller's process: engines connect here, people look in here."""
