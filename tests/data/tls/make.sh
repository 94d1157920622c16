#!/usr/bin/env bash
# Writes a certificate authority's certificate (ca.pem), and a server's for 127.0.0.1 that it has signed (server.pem, server.key).
# For tests alone: the authority's key is thrown away, the server's is public. Needs openssl 3.
set -euo pipefail
cd "$(dirname "$0")"
key=$(mktemp)
trap 'rm -f "$key" request.pem' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$key" -out ca.pem -days 36500 -subj "/CN=evalsuite tests" \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out request.pem -subj "/CN=evalsuite test server"
chmod 644 server.key
openssl x509 -req -in request.pem -CA ca.pem -CAkey "$key" -out server.pem -days 36500 \
  -extfile <(printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n')
