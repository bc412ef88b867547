. /payload/steps.sh
exec 4<>/dev/tpm0
step held agent identify --tpm device:/dev/tpm0
step beside agent identify
exec 4>&-
step free agent identify --tpm device:/dev/tpm0
step stranger su stranger -c 'agent identify'
step member su member -c 'agent identify'
step absent agent identify --tpm device:/dev/tpmrm7
step handles handles
