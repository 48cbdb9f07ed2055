"""`import tensorflow` for scripts and packages that use `tensorflow.keras` and some other names. Nothing else imports it."""
