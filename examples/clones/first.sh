#!/bin/sh
# Runs once, in the first clone.
hostname >/var/lib/first
