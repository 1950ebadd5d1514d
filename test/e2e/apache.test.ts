import { testPath } from './battery.ts';

testPath('apache', ['websocket', 'connect-tcp']);
