import { testPath } from './battery.ts';

testPath('nginx', ['websocket', 'connect-tcp']);
