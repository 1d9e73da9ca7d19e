"""Stands where RPi.GPIO would; see GPIO.py."""
