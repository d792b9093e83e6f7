"""What passes between services: protobuf messages and their only translator."""
