"""The start-up hook and the doctor."""
