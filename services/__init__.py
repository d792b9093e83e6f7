"""The four services. Each is a process, an image and a deployment; they meet only on the wire."""
