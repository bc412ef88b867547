. /payload/steps.sh
# One connection to the resource manager has room for three objects.
step fourth slots device:/dev/tpmrm0 </dev/null
# The TPM itself too, for one that goes past the manager, and keeps them.
mkfifo /tmp/hold
slots device:/dev/tpm0 </tmp/hold >/tmp/said 2>&1 & slots=$!
exec 5>/tmp/hold
until grep -q full /tmp/said; do usleep 50000; done
step join join /tmp/full
exec 5>&-
step slots wait "$slots"
step said cat /tmp/said
step room join /tmp/full
step handles handles
