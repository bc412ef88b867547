. /payload/steps.sh
# A healthy device, with and without a host's configuration.
step healthy agent doctor
configure /tmp/host ''
step before agent doctor -c /tmp/host/tbot.yaml
daemon /tmp/host
step ready until_said /tmp/host 1 "$READY"
step after agent doctor -c /tmp/host/tbot.yaml
step ended ended

# Another process holds the device without resource manager.
exec 4<>/dev/tpm0
step beside agent doctor 4>&-
step held agent doctor --tpm device:/dev/tpm0 4>&-
exec 4>&-
step free agent doctor --tpm device:/dev/tpm0
step stranger su stranger -c 'agent doctor'
step member su member -c 'agent doctor'
step absent agent doctor --tpm device:/dev/tpmrm7

# No driver has it.
chip=$(readlink -f /sys/class/tpm/tpm0/device)
driver=$(readlink -f "$chip/driver")
step unbind unbind
step none agent doctor
step bind bind
step handles handles
