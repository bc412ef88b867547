#!/bin/sh
# Generates the Go code of the messages. Needs protoc, protoc-gen-go and protoc-gen-go-grpc.
set -eu
cd "$(dirname "$0")"
protoc --go_out=.. --go_opt=module=teleport-peer --go-grpc_out=.. --go-grpc_opt=module=teleport-peer ./*.proto
