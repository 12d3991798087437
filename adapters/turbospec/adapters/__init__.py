"""What runs inside an engine: the client of the controller and the engines' adapters.

Imports only the standard library, grpcio, protobuf and `turbospec.v1`.
"""
