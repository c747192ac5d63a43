# the work is done by tasks.py, so that Windows has the same commands without make
.PHONY: setup lab test doctor
setup lab test doctor: ; python3 tasks.py $@
