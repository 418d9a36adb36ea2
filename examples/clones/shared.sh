#!/bin/sh
# Runs once, before there are clones.
hostname >/var/lib/shared
