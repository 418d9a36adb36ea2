// The hosts: kept up to date.

import { watch } from './live.js';

watch();
