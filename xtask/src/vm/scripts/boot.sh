. /payload/steps.sh
# What the firmware measured, and what came of it.
mount -t securityfs security /sys/kernel/security
step events base64 /sys/kernel/security/tpm0/binary_bios_measurements
pcrs() { for number in $(seq 0 23); do echo "$number $(cat "/sys/class/tpm/tpm0/pcr-sha256/$number")"; done; }
step pcrs pcrs
step handles handles
