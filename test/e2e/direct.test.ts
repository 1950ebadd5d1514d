import { testPath } from './battery.ts';

testPath('direct', ['websocket', 'connect-tcp', 'connect']);
