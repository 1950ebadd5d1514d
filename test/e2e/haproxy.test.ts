import { testPath } from './battery.ts';

testPath('haproxy', ['websocket', 'connect-tcp', 'connect']);
