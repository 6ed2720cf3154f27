//! Compares what the services say about the same requests.
