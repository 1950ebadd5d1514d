import { testPath } from './battery.ts';

testPath('direct', ['http']);
