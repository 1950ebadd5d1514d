import { testPath } from './battery.ts';

testPath('direct', ['relay', 'websocket', 'connect-tcp', 'connect', 'http']);
