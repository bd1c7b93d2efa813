"""Measurement of one function: its calls, its time, the memory it takes and keeps."""
