import { testPath } from './battery.ts';

testPath('apache', ['relay', 'websocket', 'connect-tcp', 'http']);
