import { testPath } from './battery.ts';

testPath('caddy', ['websocket', 'connect-tcp']);
