"""One function at a time: how often it is called, how long it takes, what memory it takes and keeps."""
